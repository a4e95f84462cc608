"""Who may be trained on, and who is tested: split tables, made from a manifest alone."""
