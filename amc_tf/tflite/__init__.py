"""The artefact: a Keras model made into a .tflite file that is checked before anybody ships it."""
