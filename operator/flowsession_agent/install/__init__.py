"""Installing the requirements: a layer on the image's packages, made aside and switched to when it is proved."""
