"""Image encoders as they are adapted: opened, what is trained put in and saved, and where they compute."""
