"""What a device says: points, readings, topics, payloads, registry.

Pure: values and the time come in, values go out. Nothing here opens a file, a socket or a clock.
"""
