"""A folder of images becomes a data set: found, fetched, read, changed, and described in one table."""
