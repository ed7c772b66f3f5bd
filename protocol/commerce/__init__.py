"""What chat, commerce and clients tell each other about money: amounts, states of a payment, the HTTP contract."""
