//! Which tensors are linear weights.

use crate::checkpoint::nearest;
use crate::error::{Error, Result};
use crate::tensor::base_of;
use globset::{Glob, GlobBuilder, GlobSet, GlobSetBuilder};

/// Last parts of the names of linear layers in common architectures: attention, feed-forward, experts,
/// state-space and linear-attention mixers; last those of llama.cpp.
const LINEAR: [&str; 56] = [
    "q_proj",
    "k_proj",
    "v_proj",
    "o_proj",
    "qkv_proj",
    "q_a_proj",
    "q_b_proj",
    "kv_a_proj_with_mqa",
    "kv_b_proj",
    "gate_proj",
    "up_proj",
    "down_proj",
    "gate_up_proj",
    "in_proj*",
    "out_proj",
    "fc1",
    "fc2",
    "fc_in",
    "fc_out",
    "linear_fc1",
    "linear_fc2",
    "w1",
    "w2",
    "w3",
    "wq",
    "wk",
    "wv",
    "wo",
    "wqkv",
    "Wqkv",
    "c_attn",
    "c_proj",
    "c_fc",
    "qkv",
    "query",
    "key",
    "value",
    "query_key_value",
    "dense",
    "dense_h_to_4h",
    "dense_4h_to_h",
    "attn_q",
    "attn_k",
    "attn_v",
    "attn_qkv",
    "attn_output",
    "attn_gate",
    "attn_kv_a_mqa",
    "attn_[qkv]*_[ab]",
    "ffn_gate",
    "ffn_up",
    "ffn_down",
    "ffn_*_exps",
    "ffn_*_shexp",
    "ssm_in",
    "ssm_out",
];

/// Parts of names that are never linear layers, whatever their last part.
const NEVER: [&str; 4] = ["*embed*", "*norm*", "*lm_head*", "*patch*"];

/// A choice among weights by name.
#[derive(Debug)]
pub struct Choice {
    include: GlobSet,
    exclude: GlobSet,
}

impl Choice {
    /// With `include` empty, linear layers by the usual names; else what matches one of its globs.
    /// What matches a glob of `exclude` is left out. Globs are held against the name without
    /// `.weight`; `*` crosses dots.
    ///
    /// # Errors
    /// When a glob is malformed or matches none of `bases`.
    pub fn new(include: &[String], exclude: &[String], bases: &[&str]) -> Result<Self> {
        let given = |patterns: &[String], option: &str| -> Result<Vec<Glob>> {
            patterns
                .iter()
                .map(|p| {
                    let wanted = base_of(p);
                    // A name that is there means itself, whatever it has of a glob.
                    let exact = bases.contains(&wanted);
                    let text = if exact {
                        globset::escape(wanted)
                    } else {
                        wanted.into()
                    };
                    let glob = GlobBuilder::new(&text)
                        .backslash_escape(!exact)
                        .build()
                        .map_err(|e| Error::input(format!("malformed pattern: {e}"), option, ""))?;
                    let matcher = glob.compile_matcher();
                    if !bases.iter().any(|b| matcher.is_match(b)) {
                        return Err(Error::input(
                            format!(
                                "{wanted:?} matches no weight of the model{}",
                                nearest(wanted, bases.iter().copied())
                            ),
                            option,
                            "give the name before .weight, or a glob",
                        ));
                    }
                    Ok(glob)
                })
                .collect()
        };
        let builtin = |patterns: &mut dyn Iterator<Item = String>| -> Vec<Glob> {
            patterns
                .map(|p| Glob::new(&p).expect("the pattern is constant"))
                .collect()
        };
        let mut excluded = given(exclude, "weights to leave out")?;
        let included = if include.is_empty() {
            excluded.extend(builtin(&mut NEVER.into_iter().map(str::to_owned)));
            builtin(
                &mut LINEAR
                    .into_iter()
                    .flat_map(|n| [n.to_owned(), format!("*.{n}")]),
            )
        } else {
            given(include, "weights to quantise")?
        };
        let set = |globs: Vec<Glob>| {
            let mut builder = GlobSetBuilder::new();
            for g in globs {
                builder.add(g);
            }
            builder.build().map_err(|e| {
                Error::input(format!("malformed pattern: {e}"), "weights to quantise", "")
            })
        };
        Ok(Self {
            include: set(included)?,
            exclude: set(excluded)?,
        })
    }

    /// Whether the weight `BASE.weight` is chosen.
    pub fn takes(&self, base: &str) -> bool {
        self.include.is_match(base) && !self.exclude.is_match(base)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn linear_layers_by_default_and_nothing_else() {
        let bases = [
            ("model.layers.0.self_attn.q_proj", true),
            ("model.layers.0.mlp.down_proj", true),
            ("model.layers.3.linear_attn.in_proj_qkvz", true),
            ("model.layers.3.linear_attn.in_proj_ba", true),
            ("model.layers.3.block_sparse_moe.experts.7.w2", true),
            ("transformer.h.0.attn.c_attn", true),
            ("fc1", true),
            ("blk.0.attn_q", true),
            ("blk.0.attn_kv_a_mqa", true),
            ("blk.0.attn_q_a", true),
            ("blk.0.ffn_gate_exps", true),
            ("blk.0.ffn_gate_inp", false),
            ("blk.0.attn_q_norm", false),
            ("token_embd", false),
            ("output", false),
            ("model.layers.0.mlp.gate", false),
            ("model.embed_tokens", false),
            ("model.embed_tokens.q_proj", false),
            ("model.layers.0.input_layernorm", false),
            ("model.layers.0.self_attn.q_norm", false),
            ("model.visual.patch_embed.proj", false),
            ("lm_head", false),
            ("xfc1", false),
        ];
        let names: Vec<&str> = bases.iter().map(|b| b.0).collect();
        let choice = Choice::new(&[], &[], &names).unwrap();
        for (name, chosen) in bases {
            assert_eq!(choice.takes(name), chosen, "{name}");
        }
    }

    #[test]
    fn globs_replace_the_usual_names() {
        let names = ["a.q_proj", "b.q_proj", "lm_head", "b.k_proj"];
        let text = |t: &[&str]| t.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>();
        let choice = Choice::new(
            &text(&["lm_head.weight", "b.*"]),
            &text(&["*.k_proj"]),
            &names,
        );
        let choice = choice.unwrap();
        let taken: Vec<&str> = names.into_iter().filter(|n| choice.takes(n)).collect();
        assert_eq!(taken, ["b.q_proj", "lm_head"]);
        for (include, exclude) in [
            (vec!["x*"], vec![]),
            (vec![], vec!["c.*"]),
            (vec!["["], vec![]),
        ] {
            assert!(Choice::new(&text(&include), &text(&exclude), &names).is_err());
        }
    }

    #[test]
    fn a_name_with_a_glob_s_characters_means_itself() {
        for name in ["a\\..\\b", "a[0]", "a{b", "*"] {
            let choice = Choice::new(&[name.to_owned()], &[], &[name, "other"]).unwrap();
            assert!(choice.takes(name) && !choice.takes("other"), "{name}");
        }
    }
}
