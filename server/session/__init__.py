"""The session actor: one per connection."""
