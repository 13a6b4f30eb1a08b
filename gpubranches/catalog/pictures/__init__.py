"""Picture files: read, made small, and sent by a person."""
