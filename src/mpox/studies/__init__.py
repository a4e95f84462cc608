"""One module a question: leakage, growth, other data, shortcuts, skin tone, errors, heat maps, the verdict."""
