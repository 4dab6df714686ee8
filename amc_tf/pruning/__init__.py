"""Which channels or weights go."""
