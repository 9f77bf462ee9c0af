"""What a requirements file asks for. Pure."""
