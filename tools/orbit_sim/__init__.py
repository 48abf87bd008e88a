"""A simulated ORBIT worker. README.md beside this file says what it promises."""
