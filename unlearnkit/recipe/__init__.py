"""From YAML text to a recipe: nothing in this package imports torch."""
