//! Writes Rust for the parsed schemas: one type per struct, decoding and encoding both ways.

use std::fmt::Write as _;

use crate::schema::{Api, Field, Struct, Type, Versions};

/// The whole generated source.
pub fn messages(apis: &[Api]) -> String {
    let mut out = String::new();
    api_table(&mut out, apis);
    for api in apis {
        let _ = writeln!(out, "/// {} (key {}).", api.name, api.key);
        let _ = writeln!(out, "pub mod {} {{", snake(&api.name));
        out.push_str("    use super::prelude::*;\n");
        for item in &api.structs {
            Emitter { api, item }.emit(&mut out);
        }
        out.push_str("}\n\n");
    }
    out
}

fn snake(name: &str) -> String {
    let mut out = String::new();
    for (at, letter) in name.chars().enumerate() {
        if letter.is_uppercase() && at > 0 {
            out.push('_');
        }
        out.extend(letter.to_lowercase());
    }
    out
}

fn api_table(out: &mut String, apis: &[Api]) {
    out.push_str("/// The APIs that are decoded and encoded here.\n");
    out.push_str("#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]\n");
    out.push_str("#[repr(i16)]\npub enum ApiKey {\n");
    for api in apis {
        let _ = writeln!(
            out,
            "    /// Key {}.\n    {} = {},",
            api.key, api.name, api.key
        );
    }
    out.push_str("}\n\nimpl ApiKey {\n    /// Every API, in key order.\n");
    out.push_str("    pub const ALL: &'static [ApiKey] = &[\n");
    for api in apis {
        let _ = writeln!(out, "        ApiKey::{},", api.name);
    }
    out.push_str("    ];\n\n    pub(crate) fn facts(self) -> (i16, i16, i16) {\n");
    out.push_str("        match self {\n");
    for api in apis {
        let _ = writeln!(
            out,
            "            ApiKey::{} => ({}, {}, {}),",
            api.name, api.versions.low, api.versions.high, api.flexible_from
        );
    }
    out.push_str("        }\n    }\n}\n\n");
}

struct Emitter<'a> {
    api: &'a Api,
    item: &'a Struct,
}

impl Emitter<'_> {
    fn borrows(&self, kind: &Type) -> bool {
        match kind {
            Type::String | Type::Bytes | Type::Array(_) => true,
            Type::Struct(name) => self.struct_borrows(name),
            _ => false,
        }
    }

    fn struct_borrows(&self, name: &str) -> bool {
        let found = self.api.structs.iter().find(|item| item.name == name);
        found.is_some_and(|item| item.fields.iter().any(|field| self.borrows(&field.kind)))
    }

    fn base_type(&self, kind: &Type) -> String {
        match kind {
            Type::Bool => "bool".into(),
            Type::Int8 => "i8".into(),
            Type::Int16 => "i16".into(),
            Type::Uint16 => "u16".into(),
            Type::Int32 => "i32".into(),
            Type::Int64 => "i64".into(),
            Type::Uuid => "TopicId".into(),
            Type::String => "&'a str".into(),
            Type::Bytes => "&'a [u8]".into(),
            Type::Array(element) => format!("Array<'a, {}>", self.base_type(element)),
            Type::Struct(name) if self.struct_borrows(name) => format!("{name}<'a>"),
            Type::Struct(name) => name.clone(),
        }
    }

    fn rust_type(&self, field: &Field) -> String {
        let base = self.base_type(&field.kind);
        if field.nullable.is_some() {
            format!("Option<{base}>")
        } else {
            base
        }
    }

    fn default(&self, field: &Field) -> String {
        match &field.default {
            Some(value) => value.clone(),
            // Absent from this version on the wire means "none", not "empty".
            None if field.nullable.is_some() => "None".into(),
            None => "Default::default()".into(),
        }
    }

    fn emit(&self, out: &mut String) {
        let name = &self.item.name;
        let borrows = self.struct_borrows(name);
        let generics = if borrows { "<'a>" } else { "" };
        let anonymous = if borrows { "<'_>" } else { "" };
        let _ = writeln!(out, "\n    /// `{name}` of the protocol.");
        out.push_str("    #[derive(Clone, Copy, Debug, PartialEq)]\n");
        let _ = writeln!(out, "    pub struct {name}{generics} {{");
        for field in &self.item.fields {
            let _ = writeln!(
                out,
                "        pub {}: {},",
                field.name,
                self.rust_type(field)
            );
        }
        out.push_str("    }\n\n");
        let _ = writeln!(out, "    impl Default for {name}{anonymous} {{");
        out.push_str("        fn default() -> Self {\n            Self {\n");
        for field in &self.item.fields {
            let _ = writeln!(
                out,
                "                {}: {},",
                field.name,
                self.default(field)
            );
        }
        out.push_str("            }\n        }\n    }\n\n");
        let _ = writeln!(out, "    impl<'a> Element<'a> for {name}{generics} {{");
        self.emit_read(out);
        self.emit_write(out);
        out.push_str("    }\n\n");
        let _ = writeln!(out, "    impl<'a> {name}{generics} {{");
        self.emit_entry_points(out, borrows);
        out.push_str("    }\n");
    }

    fn emit_entry_points(&self, out: &mut String, borrows: bool) {
        let flexible = self.api.flexible_from;
        let bytes_lifetime = if borrows { "'a " } else { "" };
        let _ = write!(
            out,
            "        /// Decodes a message at the front of `bytes`. What lies behind it is\n        \
             /// ignored, as Kafka does: librdkafka 2.16 sends three stray bytes with\n        \
             /// Metadata 13.\n        \
             ///\n        /// # Errors\n        /// What is wrong, by field.\n        \
             pub fn parse(version: i16, bytes: &{bytes_lifetime}[u8]) -> \
             Result<Self, DecodeError> {{\n            \
             Self::read(version, version >= {flexible}, &mut Reader::new(bytes))\n        }}\n\n        \
             /// Appends the encoded message.\n        ///\n        /// # Errors\n        \
             /// A field longer than its length prefix can say.\n        \
             pub fn encode(&self, version: i16, out: &mut Vec<u8>) -> \
             Result<(), EncodeError> {{\n            \
             self.write(version, version >= {flexible}, out)\n        }}\n"
        );
    }

    /// A condition on `version`, or `None` when it always holds for this API.
    fn condition(&self, versions: Versions) -> Option<String> {
        let all = self.api.versions;
        match (versions.low <= all.low, versions.high >= all.high) {
            (true, true) => None,
            (false, true) => Some(format!("version >= {}", versions.low)),
            (true, false) => Some(format!("version <= {}", versions.high)),
            (false, false) => Some(format!(
                "({}..={}).contains(&version)",
                versions.low, versions.high
            )),
        }
    }

    /// Whether null is allowed, as an expression.
    fn null_allowed(&self, field: &Field) -> String {
        match field.nullable {
            None => "false".into(),
            Some(versions) => self.condition(versions).unwrap_or_else(|| "true".into()),
        }
    }

    fn read_expression(&self, field: &Field, reader: &str) -> String {
        let label = format!("\"{}.{}\"", self.item.name, field.name);
        let base = self.base_type(&field.kind).replace("<'a", "::<'a");
        match (&field.kind, field.nullable.is_some()) {
            (Type::String | Type::Bytes | Type::Array(_), true) => {
                let allowed = self.null_allowed(field);
                let call = match field.kind {
                    Type::String => "nullable_string",
                    Type::Bytes => "nullable_bytes",
                    _ => "nullable_array",
                };
                let version = if matches!(field.kind, Type::Array(_)) {
                    "version, "
                } else {
                    ""
                };
                format!("{reader}.{call}({version}flexible, {allowed}, {label})?")
            }
            (Type::String, false) => format!("{reader}.string(flexible, {label})?"),
            (Type::Bytes, false) => format!("{reader}.bytes(flexible, {label})?"),
            (Type::Array(_), false) => format!("{reader}.array(version, flexible, {label})?"),
            (Type::Struct(_), true) => {
                format!("{reader}.nullable_struct(version, flexible, {label})?")
            }
            (Type::Struct(_), false) => {
                format!(
                    "<{}>::read(version, flexible, {reader})?",
                    base.replace("::<", "<")
                )
            }
            _ => format!("{reader}.fixed({label})?"),
        }
    }

    fn emit_read(&self, out: &mut String) {
        out.push_str(
            "        fn read(version: i16, flexible: bool, reader: &mut Reader<'a>) -> \
             Result<Self, DecodeError> {\n",
        );
        out.push_str("            let _ = (version, flexible);\n");
        out.push_str("            let mut value = Self::default();\n");
        for field in &self.item.fields {
            if field.tag.is_some() {
                continue;
            }
            let read = self.read_expression(field, "reader");
            match self.condition(field.versions) {
                None => {
                    let _ = writeln!(out, "            value.{} = {read};", field.name);
                }
                Some(condition) => {
                    let _ = writeln!(out, "            if {condition} {{");
                    let _ = writeln!(out, "                value.{} = {read};", field.name);
                    out.push_str("            }\n");
                }
            }
        }
        self.emit_read_tags(out);
        out.push_str("            Ok(value)\n        }\n\n");
    }

    fn emit_read_tags(&self, out: &mut String) {
        out.push_str("            if flexible {\n");
        let tagged: Vec<(&Field, u32, Versions)> = self
            .item
            .fields
            .iter()
            .filter_map(|field| field.tag.map(|(tag, versions)| (field, tag, versions)))
            .collect();
        if tagged.is_empty() {
            out.push_str("                reader.skip_tags()?;\n            }\n");
            return;
        }
        out.push_str("                let mut tags = reader.tags()?;\n");
        out.push_str("                while let Some((tag, mut field)) = tags.next(reader)? {\n");
        out.push_str("                    match tag {\n");
        for (field, tag, versions) in tagged {
            let guard = match self.condition(versions) {
                None => String::new(),
                Some(condition) => format!(" if {condition}"),
            };
            let read = match field.kind {
                Type::Struct(_) if field.nullable.is_none() => {
                    self.read_expression(field, "&mut field")
                }
                _ => self.read_expression(field, "field"),
            };
            let _ = writeln!(
                out,
                "                        {tag}{guard} => value.{} = {read},",
                field.name
            );
        }
        out.push_str("                        _ => {}\n                    }\n");
        out.push_str("                }\n            }\n");
    }

    fn write_statement(&self, field: &Field, value: &str, target: &str) -> String {
        let label = format!("\"{}.{}\"", self.item.name, field.name);
        match (&field.kind, field.nullable.is_some()) {
            (Type::String, true) => {
                let allowed = self.null_allowed(field);
                format!("put_nullable_string({target}, {value}, flexible, {allowed}, {label})?;")
            }
            (Type::Bytes, true) => {
                let allowed = self.null_allowed(field);
                format!("put_nullable_bytes({target}, {value}, flexible, {allowed}, {label})?;")
            }
            (Type::Array(_), true) => {
                let allowed = self.null_allowed(field);
                format!(
                    "put_nullable_array({target}, {value}, version, flexible, {allowed}, {label})?;"
                )
            }
            (Type::String, false) => format!("put_string({target}, {value}, flexible, {label})?;"),
            (Type::Bytes, false) => format!("put_bytes({target}, {value}, flexible, {label})?;"),
            (Type::Array(_), false) => {
                format!("put_array({target}, &{value}, version, flexible, {label})?;")
            }
            (Type::Struct(_), true) => {
                format!("put_nullable_struct({target}, {value}, version, flexible)?;")
            }
            (Type::Struct(_), false) => format!("{value}.write(version, flexible, {target})?;"),
            _ => format!("{value}.put({target});"),
        }
    }

    fn emit_write(&self, out: &mut String) {
        out.push_str(
            "        fn write(&self, version: i16, flexible: bool, out: &mut Vec<u8>) -> \
             Result<(), EncodeError> {\n",
        );
        out.push_str("            let _ = (version, flexible);\n");
        for field in &self.item.fields {
            if field.tag.is_some() {
                continue;
            }
            let value = format!("self.{}", field.name);
            let write = self.write_statement(field, &value, "out");
            match self.condition(field.versions) {
                None => {
                    let _ = writeln!(out, "            {write}");
                }
                Some(condition) => {
                    let _ = writeln!(
                        out,
                        "            if {condition} {{\n                {write}"
                    );
                    out.push_str("            }\n");
                }
            }
        }
        self.emit_write_tags(out);
        out.push_str("            Ok(())\n        }\n");
    }

    fn emit_write_tags(&self, out: &mut String) {
        let mut tagged: Vec<(&Field, u32, Versions)> = self
            .item
            .fields
            .iter()
            .filter_map(|field| field.tag.map(|(tag, versions)| (field, tag, versions)))
            .collect();
        tagged.sort_by_key(|(_, tag, _)| *tag);
        out.push_str("            if flexible {\n");
        if tagged.is_empty() {
            out.push_str("                put_no_tags(out);\n            }\n");
            return;
        }
        out.push_str("                let default = Self::default();\n");
        out.push_str("                let mut tags = TagWriter::default();\n");
        for (field, tag, versions) in tagged {
            let name = &field.name;
            let applies = match self.condition(versions) {
                None => String::new(),
                Some(condition) => format!("{condition} && "),
            };
            let _ = writeln!(
                out,
                "                if {applies}self.{name} != default.{name} {{\n                    \
                 let bytes = tags.begin({tag});"
            );
            let write = self.write_statement(field, &format!("self.{name}"), "bytes");
            let _ = writeln!(
                out,
                "                    {write}\n                    tags.end();"
            );
            out.push_str("                }\n");
        }
        out.push_str("                tags.finish(out);\n            }\n");
    }
}
