"""The reinforcement-learning side of the search: states and actions of an episode, and the agent that learns from them.

In: units with their costs and bounds, and the trials in the journal. Out: the widths of an episode of the agent.
An agent is anything with the methods of agent_interface.Agent; ddpg_client.DdpgAgent is the one of the paper.
"""
