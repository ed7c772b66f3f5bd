"""What is kept: the contracts of the stores and their row types, the same for every engine."""
