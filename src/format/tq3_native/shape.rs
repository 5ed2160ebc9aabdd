//! The true width of a weight, which only the model's `config.json` tells.

use crate::checkpoint::read_json;
use crate::error::Result;
use serde_json::Value;
use std::path::Path;

/// File name of a model's Hugging Face configuration.
const MODEL_CONFIG: &str = "config.json";

/// Parts that have widths of their own, which the keys below do not tell.
const OTHER_TOWERS: [&str; 3] = ["vision", "visual", "audio"];

/// The widths that a model's `config.json` gives.
#[derive(Debug, Clone, Default)]
pub(crate) struct Widths {
    /// The text model's own part, then the whole: a key of the first hides the second's.
    parts: Vec<Value>,
}

impl Widths {
    /// Reads the widths of the model in `dir`; none where there is no `config.json`.
    ///
    /// # Errors
    /// When there is one that is not JSON.
    pub(crate) fn read(dir: &Path) -> Result<Self> {
        let path = dir.join(MODEL_CONFIG);
        if !path.exists() {
            return Ok(Self::default());
        }
        Ok(Self::of_config(read_json(&path)?))
    }

    fn of_config(whole: Value) -> Self {
        let text = whole.get("text_config").cloned();
        Self {
            parts: text.into_iter().chain([whole]).collect(),
        }
    }

    /// The true columns of the weight `name` that is stored `padded` wide in groups of `group`; `None` when
    /// the configuration does not tell, or tells what does not fit.
    pub(crate) fn of(&self, name: &str, padded: usize, group: usize) -> Option<usize> {
        if OTHER_TOWERS.iter().any(|tower| name.contains(tower)) {
            return None;
        }
        let fits = |k: &usize| *k > 0 && k.checked_next_multiple_of(group) == Some(padded);
        let mut fitting = self.candidates(name).into_iter().flatten().filter(fits);
        let first = fitting.next()?;
        // Two widths that are padded to the same: the name alone does not say which.
        fitting.all(|k| k == first).then_some(first)
    }

    /// What the layer's name lets the width be.
    fn candidates(&self, name: &str) -> Vec<Option<usize>> {
        let base = name.strip_suffix(".weight").unwrap_or(name);
        let layer = base.rsplit('.').next().unwrap_or(base);
        match layer {
            // In the order of: attention; MLP; router; linear attention; latent attention.
            "q_proj" | "k_proj" | "v_proj" | "qkv_proj" | "qkv" | "gate_proj" | "up_proj"
            | "gate_up_proj" | "w1" | "w3" | "gate" | "shared_expert_gate" | "in_proj"
            | "in_proj_qkv" | "in_proj_qkvz" | "in_proj_z" | "in_proj_ba" | "in_proj_a"
            | "in_proj_b" | "q_a_proj" | "kv_a_proj_with_mqa" => vec![self.get("hidden_size")],
            "q_b_proj" => vec![self.get("q_lora_rank")],
            "kv_b_proj" => vec![self.get("kv_lora_rank")],
            "o_proj" => {
                let head = self.get("head_dim").or_else(|| {
                    let heads = self.get("num_attention_heads")?;
                    self.get("hidden_size")?.checked_div(heads)
                });
                // Latent attention has `v_head_dim`, and a `head_dim` of something else; some models have
                // wider heads in every few layers.
                let dims = [head, self.get("v_head_dim"), self.get("global_head_dim")];
                let times = |dim| self.product(self.get("num_attention_heads"), dim);
                dims.map(times).to_vec()
            }
            "out_proj" if base.contains("linear_attn") => vec![self.product(
                self.get("linear_num_value_heads"),
                self.get("linear_value_head_dim"),
            )],
            "down_proj" | "w2" => vec![self.intermediate(base)],
            _ => vec![],
        }
    }

    /// Columns of a down projection: of an expert, of the shared expert or experts, or of the plain MLP.
    fn intermediate(&self, base: &str) -> Option<usize> {
        let (plain, expert) = ("intermediate_size", "moe_intermediate_size");
        if base.contains(".shared_experts") {
            self.product(self.get(expert), self.get("n_shared_experts"))
        } else if base.contains(".shared_expert") {
            self.get("shared_expert_intermediate_size")
        } else if base.contains(".experts") {
            self.get(expert).or_else(|| self.get(plain))
        } else {
            self.get(plain)
        }
    }

    fn product(&self, a: Option<usize>, b: Option<usize>) -> Option<usize> {
        a?.checked_mul(b?)
    }

    fn get(&self, key: &str) -> Option<usize> {
        let value = self.parts.iter().find_map(|part| part.get(key)?.as_u64())?;
        usize::try_from(value).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Each `(name, padded width, true width)`, in groups of 128.
    fn check(config: Value, cases: &[(&str, usize, Option<usize>)]) {
        let widths = Widths::of_config(config);
        for (name, padded, want) in cases {
            assert_eq!(widths.of(name, *padded, 128), *want, "{name} {padded}");
        }
    }

    #[test]
    fn gpt_oss_20b() {
        let config = json!({"hidden_size": 2880, "intermediate_size": 2880, "head_dim": 64,
            "num_attention_heads": 64});
        check(
            config,
            &[
                ("model.layers.0.self_attn.q_proj.weight", 2944, Some(2880)),
                ("model.layers.0.self_attn.o_proj.weight", 4096, Some(4096)),
                ("model.layers.0.mlp.experts.down_proj", 2944, Some(2880)),
                ("model.layers.0.mlp.experts.gate_up_proj", 2944, Some(2880)),
                ("model.layers.0.mlp.experts.gate_up_proj", 5760, None),
                ("model.layers.0.mlp.experts.gate_up_proj", 2880, None),
            ],
        );
    }

    #[test]
    fn deepseek_v2_lite() {
        let config = json!({"hidden_size": 2048, "intermediate_size": 10944,
            "moe_intermediate_size": 1408, "n_shared_experts": 2, "num_attention_heads": 16,
            "kv_lora_rank": 512, "q_lora_rank": null, "v_head_dim": 128, "qk_nope_head_dim": 128});
        check(
            config,
            &[
                ("model.layers.0.mlp.down_proj.weight", 11008, Some(10944)),
                (
                    "model.layers.1.mlp.experts.63.down_proj.weight",
                    1408,
                    Some(1408),
                ),
                ("model.layers.1.mlp.experts.63.down_proj.weight", 1536, None),
                (
                    "model.layers.1.mlp.shared_experts.down_proj",
                    2816,
                    Some(2816),
                ),
                ("model.layers.1.self_attn.kv_b_proj.weight", 512, Some(512)),
                (
                    "model.layers.1.self_attn.kv_a_proj_with_mqa.weight",
                    2048,
                    Some(2048),
                ),
                ("model.layers.1.self_attn.q_b_proj.weight", 1536, None),
                ("model.layers.1.self_attn.o_proj.weight", 2048, Some(2048)),
            ],
        );
    }

    #[test]
    fn qwen3_5_moe_with_a_nested_text_config() {
        let config = json!({"hidden_size": 1, "vision_config": {"hidden_size": 1152},
            "text_config": {"hidden_size": 2048, "num_attention_heads": 16, "head_dim": 256,
            "moe_intermediate_size": 512, "shared_expert_intermediate_size": 500,
            "linear_num_value_heads": 32, "linear_value_head_dim": 128}});
        check(
            config,
            &[
                (
                    "model.language_model.layers.0.linear_attn.in_proj_qkv.weight",
                    2048,
                    Some(2048),
                ),
                (
                    "model.language_model.layers.0.linear_attn.out_proj.weight",
                    4096,
                    Some(4096),
                ),
                (
                    "model.language_model.layers.3.self_attn.o_proj.weight",
                    4096,
                    Some(4096),
                ),
                (
                    "model.language_model.layers.0.mlp.shared_expert.down_proj",
                    512,
                    Some(500),
                ),
                (
                    "model.language_model.layers.0.mlp.experts.down_proj",
                    512,
                    Some(512),
                ),
                ("model.visual.blocks.0.attn.qkv.weight", 2048, None),
                (
                    "model.language_model.layers.0.mlp.unheard_of.weight",
                    2048,
                    None,
                ),
            ],
        );
    }

    #[test]
    fn the_head_defaults_to_its_share_and_two_that_fit_tell_nothing() {
        let llama = json!({"hidden_size": 2880, "num_attention_heads": 30});
        check(llama, &[("a.o_proj.weight", 2944, Some(2880))]);
        // 30 * 96 and 30 * 97 are both padded to 2944.
        let both = json!({"num_attention_heads": 30, "head_dim": 96, "v_head_dim": 97});
        check(both, &[("a.o_proj.weight", 2944, None)]);
    }

    #[test]
    fn hostile_numbers_tell_nothing() {
        let max = u64::MAX;
        let config = json!({"hidden_size": max, "num_attention_heads": max, "head_dim": max,
            "intermediate_size": -3, "moe_intermediate_size": 0, "kv_lora_rank": "512"});
        let names = [
            "a.q_proj",
            "a.o_proj",
            "a.down_proj",
            "a.experts.w2",
            "a.kv_b_proj",
        ];
        let widths = Widths::of_config(config);
        for name in names {
            for (padded, group) in [(128, 128), (0, 128), (usize::MAX, 256), (512, 32)] {
                assert!(
                    widths
                        .of(name, padded, group)
                        .is_none_or(|k| k == usize::MAX)
                );
            }
        }
        let none = json!({"num_attention_heads": 0, "hidden_size": 128});
        check(none, &[("a.o_proj", 128, None), ("", 128, None)]);
        for odd in [json!([]), json!(null), json!({"text_config": 3})] {
            check(odd, &[("a.q_proj", 128, None)]);
        }
    }

    #[test]
    fn without_a_configuration_nothing_is_known_and_a_damaged_one_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let widths = Widths::read(dir.path()).unwrap();
        assert_eq!(widths.of("a.q_proj.weight", 128, 128), None);
        std::fs::write(dir.path().join(MODEL_CONFIG), r#"{"hidden_size": 100}"#).unwrap();
        let widths = Widths::read(dir.path()).unwrap();
        assert_eq!(widths.of("a.q_proj.weight", 128, 128), Some(100));
        std::fs::write(dir.path().join(MODEL_CONFIG), "{").unwrap();
        assert!(Widths::read(dir.path()).is_err());
    }
}
