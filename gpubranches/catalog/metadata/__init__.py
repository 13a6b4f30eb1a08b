"""The metadata of items: columns, their types and values, and conditions on them."""
