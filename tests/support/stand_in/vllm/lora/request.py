"""What names an adapter."""

from dataclasses import dataclass


@dataclass(kw_only=True)
class LoRARequest:
    """An adapter in PEFT's format, at an absolute path."""

    lora_name: str
    lora_int_id: int
    lora_path: str

    def __post_init__(self) -> None:
        if self.lora_int_id < 1 or not self.lora_path.startswith("/"):
            raise ValueError(f"id {self.lora_int_id}, path {self.lora_path}")
