"""The configuration: settings, where they are read from, their reference."""
