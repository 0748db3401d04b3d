//! Schemas that the derive cannot give: those of types that are not ours, with bounds on everything, because an API server
//! refuses a CEL rule whose cost it cannot bound.

use schemars::{Schema, SchemaGenerator, json_schema};

use super::rules;

/// A label selector with bounds, in the words of Kubernetes' own.
pub(super) fn selector(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "properties": {
            "matchLabels": {
                "description": "Labels that a pod must have with exactly these values.",
                "type": "object",
                "maxProperties": rules::ENTRIES_MAX,
                "additionalProperties": {"type": "string", "maxLength": rules::LABEL_VALUE_MAX},
            },
            "matchExpressions": {
                "description": "Further requirements; each must hold.",
                "type": "array",
                "maxItems": rules::ENTRIES_MAX,
                "items": {
                    "type": "object",
                    "required": ["key", "operator"],
                    "properties": {
                        "key": {
                            "description": "The label.",
                            "type": "string",
                            "maxLength": rules::LABEL_KEY_MAX,
                        },
                        "operator": {
                            "description": "What must hold for it.",
                            "type": "string",
                            "enum": ["In", "NotIn", "Exists", "DoesNotExist"],
                        },
                        "values": {
                            "description": "The values, for In and NotIn.",
                            "type": "array",
                            "maxItems": rules::VALUES_MAX,
                            "items": {"type": "string", "maxLength": rules::LABEL_VALUE_MAX},
                        },
                    },
                },
            },
        },
    })
}

/// A bounded map of texts.
pub(super) fn config(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": rules::ENTRIES_MAX,
        "additionalProperties": {"type": "string", "maxLength": rules::CONFIG_VALUE_MAX},
    })
}
