"""The web process: the board and the API beside the node. It may crash, hang or be slow; alarms go on."""
