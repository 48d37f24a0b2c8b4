"""What methods are made of: networks, critics, policies, densities, and the arithmetic they share.

Nothing here is a method, and nothing here knows one.
"""
