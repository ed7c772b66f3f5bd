"""What tchat is measured against: minimal servers that speak as much of its protocol as a load needs, and a bound.

They keep nothing, check nothing and limit nothing: what they cost is the way from one socket to the others. They are
for loopback, and for nothing else.
"""
