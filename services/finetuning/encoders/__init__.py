"""Image encoders as they are adapted: opened, their sites found, what is trained put in and saved."""
