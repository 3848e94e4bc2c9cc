"""The charts of a training run on TensorBoard's page of custom scalars, from the score down to where the time went."""

from __future__ import annotations

from rl.board import BY_WALL, Charts

EVALUATION = ["eval/mean_reward", "eval/low", "eval/high"]

TRAINING: Charts = {
    "evaluation, mean with 95 % interval": {
        "by frames": ["Margin", EVALUATION],
        "by seconds of work": ["Margin", [f"{BY_WALL}/{tag}" for tag in EVALUATION]],
    },
    "score of the last 50 training episodes": {
        "by frames": ["Multiline", ["rollout/ep_score_mean"]],
        "by seconds of work": ["Multiline", [f"{BY_WALL}/rollout/ep_score_mean"]],
    },
    "losses": {
        "loss": ["Multiline", ["train/loss"]],
        "gradient norm, before it is clipped": ["Multiline", ["train/grad_norm"]],
        "learning rate": ["Multiline", ["train/learning_rate"]],
    },
    "values": {
        "predicted while acting, and the discounted clipped return that came": [
            "Multiline",
            ["value/predicted", "value/realised"],
        ],
        "mean of the sampled batches": ["Multiline", ["train/q_mean"]],
        "share of random actions": ["Multiline", ["rollout/exploration_rate"]],
        "age of what is sampled, in frames": ["Multiline", ["replay/age_frames"]],
    },
    "time": {
        "frames a second": ["Multiline", ["time/fps"]],
        "shares of a step": ["Multiline", ["time/.*_share"]],
    },
}
