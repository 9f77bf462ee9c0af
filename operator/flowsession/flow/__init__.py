"""Flow folders: reading, packing, and what their files mean. Pure."""
