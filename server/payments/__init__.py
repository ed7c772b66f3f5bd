"""Passes commands about payments on to commerce: what is judged here, the call, and its answer."""
