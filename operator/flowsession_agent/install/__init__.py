"""Installation of the requirements: a layer over the image's packages, built aside and switched to once it is verified."""
