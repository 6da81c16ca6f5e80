//! Communicating sequential processes: channels with ends, poison and retirement, alternation, and networks of processes.
