"""The machine and the host: processes, files, checkpoints, devices, and RecBole on today's stack."""
