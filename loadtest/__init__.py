"""Load for a tchat server: clients by the thousand, and what the server needs to serve them."""
