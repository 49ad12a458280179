"""What can be seen of a running process: metrics, traces, logs, error reports. Imports nothing of Ragline."""
