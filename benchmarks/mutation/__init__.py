"""Changes of single expressions of core modules, and whether the tests notice them."""
