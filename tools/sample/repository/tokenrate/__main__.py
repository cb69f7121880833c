import argparse

from tokenrate import batched

parser = argparse.ArgumentParser(prog="tokenrate")
parser.add_argument("--size", type=float, required=True, help="of the model file, in GB")
parser.add_argument("--bandwidth", type=float, required=True, help="of the memory, in GB per second")
parser.add_argument("--seats", type=int, default=1, help="conversations at once")
given = parser.parse_args()
print(f"at most {batched(given.size, given.bandwidth, given.seats):.1f} tokens per second")
