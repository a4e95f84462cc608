"""What a reader sees: figures, tables, executed notebooks, and the book made of them."""
