"""The resources of the stand-in for the plugin `postgresql`, statement for statement as the real plugin makes them.

Source: cyrilgdn/terraform-provider-postgresql, which the real plugin bridges, and recordings of it.
"""
