"""All commands: `python -m tf_mtl_privacy COMMAND`, as the console script `tf-mtl-privacy`."""

from tf_mtl_privacy.cli.main import main

if __name__ == "__main__":
    main()
