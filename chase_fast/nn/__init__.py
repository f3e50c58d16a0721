"""Modules of the network, without input or output: necks and cells, backbone, classifier, box regressor."""
