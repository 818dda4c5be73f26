//! Reads a schema text into a tree of structs and fields. See `schema/README.md` for the syntax.

/// A range of versions; `high` is the API's highest where the text says `N+`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versions {
    pub low: i16,
    pub high: i16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Type {
    Bool,
    Int8,
    Int16,
    Uint16,
    Int32,
    Int64,
    Uuid,
    String,
    Bytes,
    Array(Box<Type>),
    Struct(String),
}

#[derive(Clone, Debug)]
pub struct Field {
    pub name: String,
    pub kind: Type,
    pub versions: Versions,
    pub nullable: Option<Versions>,
    pub tag: Option<(u32, Versions)>,
    pub default: Option<String>,
}

#[derive(Clone, Debug)]
pub struct Struct {
    pub name: String,
    pub fields: Vec<Field>,
}

#[derive(Clone, Debug)]
pub struct Api {
    pub name: String,
    pub key: i16,
    pub versions: Versions,
    pub flexible_from: i16,
    /// Request and response first, then nested structs, each side's own.
    pub structs: Vec<Struct>,
}

fn range(text: &str, all: Versions) -> Result<Versions, String> {
    let number = |part: &str| {
        part.parse::<i16>()
            .map_err(|_| format!("bad version {text:?}"))
    };
    if let Some(low) = text.strip_suffix('+') {
        return Ok(Versions {
            low: number(low)?,
            high: all.high,
        });
    }
    match text.split_once('-') {
        Some((low, high)) => Ok(Versions {
            low: number(low)?,
            high: number(high)?,
        }),
        None => Ok(Versions {
            low: number(text)?,
            high: number(text)?,
        }),
    }
}

fn kind(text: &str) -> Type {
    if let Some(element) = text.strip_prefix("[]") {
        return Type::Array(Box::new(kind(element)));
    }
    match text {
        "bool" => Type::Bool,
        "int8" => Type::Int8,
        "int16" => Type::Int16,
        "uint16" => Type::Uint16,
        "int32" => Type::Int32,
        "int64" => Type::Int64,
        "uuid" => Type::Uuid,
        "string" => Type::String,
        "bytes" | "records" => Type::Bytes,
        name => Type::Struct(name.to_string()),
    }
}

fn field(line: &str, all: Versions) -> Result<Field, String> {
    let mut words = line.split_whitespace();
    let mut next = |what: &str| words.next().ok_or_else(|| format!("{line:?} lacks {what}"));
    let name = next("a name")?.to_string();
    let kind = kind(next("a type")?);
    let versions = range(next("versions")?, all)?;
    let mut field = Field {
        name,
        kind,
        versions,
        nullable: None,
        tag: None,
        default: None,
    };
    while let Some(word) = words.next() {
        let mut more = || words.next().ok_or_else(|| format!("{line:?} ends early"));
        match word {
            "null" => field.nullable = Some(range(more()?, all)?),
            "tag" => {
                let number = more()?
                    .parse()
                    .map_err(|_| format!("bad tag in {line:?}"))?;
                field.tag = Some((number, range(more()?, all)?));
            }
            "=" => field.default = Some(more()?.to_string()),
            other => return Err(format!("{other:?} is not understood in {line:?}")),
        }
    }
    Ok(field)
}

/// Reads one schema text.
pub fn parse(text: &str) -> Result<Api, String> {
    let mut lines = text.lines().filter(|line| !line.trim().is_empty());
    let mut heading = |word: &str| -> Result<String, String> {
        let line = lines.next().ok_or("the text ends early")?;
        let rest = line
            .strip_prefix(word)
            .ok_or_else(|| format!("wanted {word}, found {line:?}"))?;
        Ok(rest.trim().to_string())
    };
    let title = heading("api ")?;
    let (name, key) = title.split_once(' ').ok_or("api needs a name and a key")?;
    let everything = Versions {
        low: 0,
        high: i16::MAX,
    };
    let versions = range(&heading("versions ")?, everything)?;
    let flexible_from = range(&heading("flexible ")?, versions)?.low;
    let key = key.parse().map_err(|_| format!("bad key {key:?}"))?;
    let mut api = Api {
        name: name.to_string(),
        key,
        versions,
        flexible_from,
        structs: Vec::new(),
    };
    // Indices into `structs` of the struct that owns each level of indentation.
    let mut open: Vec<usize> = Vec::new();
    for line in lines {
        let indent = (line.len() - line.trim_start().len()) / 2;
        if indent == 0 {
            let suffix = match line.trim() {
                "request" => "Request",
                "response" => "Response",
                other => return Err(format!("wanted request or response, found {other:?}")),
            };
            open = vec![api.structs.len()];
            let name = format!("{}{suffix}", api.name);
            api.structs.push(Struct {
                name,
                fields: Vec::new(),
            });
            continue;
        }
        open.truncate(indent);
        let field = field(line.trim(), api.versions)?;
        let owner = *open
            .last()
            .ok_or_else(|| format!("{line:?} belongs to nothing"))?;
        let nested = match &field.kind {
            Type::Struct(name) => Some(name.clone()),
            Type::Array(element) => match &**element {
                Type::Struct(name) => Some(name.clone()),
                _ => None,
            },
            _ => None,
        };
        api.structs[owner].fields.push(field);
        if let Some(name) = nested {
            open.push(api.structs.len());
            api.structs.push(Struct {
                name,
                fields: Vec::new(),
            });
        }
    }
    Ok(api)
}
