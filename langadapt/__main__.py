"""`python -m langadapt`, which `accelerate launch -m langadapt distill ...` starts once per process."""

from langadapt.cli import main

if __name__ == "__main__":
    main()
