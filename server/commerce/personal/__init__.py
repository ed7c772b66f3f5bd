"""What is personal of people in commerce: sealed under keys of their own, read by them, exported, erased."""
