"""What is fitted: configurations, networks and their weights, features, heads, training, heat maps."""
