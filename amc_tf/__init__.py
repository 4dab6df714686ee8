"""Makes trained Keras networks small and fast on phones (AMC, arXiv 1802.03494)."""
