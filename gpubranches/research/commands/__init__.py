"""The commands of the command line that measure: `bench` and `evaluate`."""
