"""What the network is.

In: a Keras model. Out: a Graph (plain data), ChannelGroups (channels that must be pruned together) and, for a choice of
kept channels, a smaller Keras model. Only `keras_internals.py` reads private attributes of Keras.
"""
