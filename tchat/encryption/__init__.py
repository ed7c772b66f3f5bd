"""What one device does in sealed conversations: what it asks the server for, what it believes, and what it seals."""
