"""Rate, distortion and code usage of quantizers on log-mel frames of speech."""
