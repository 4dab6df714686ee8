"""What the network is: its nodes, the channels that must go together, and the smaller network."""
