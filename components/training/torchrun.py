"""How torchrun is told to do a training on several machines, of which one may be lost and come back."""

# Above one machine its agents must have this in their environment. Without it, the agent that goes on keeps the address
# of the first rendezvous to itself (torch 2.13 and 2.14), and one that comes back waits for it in vain.
REJOINING = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
