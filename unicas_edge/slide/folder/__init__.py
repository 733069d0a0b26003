"""A folder of JPEG or PNG fields, read as one slide."""
