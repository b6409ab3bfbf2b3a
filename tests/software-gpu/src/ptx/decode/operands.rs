//! Operands of an instruction as they are written.

use crate::ptx::tokens::{Kind, Token, number};

#[derive(Clone, Debug)]
pub enum Operand<'t> {
    /// A register, a label, a variable or a special register.
    Name(&'t str),
    /// `!%p`.
    Not(&'t str),
    /// `-12`, `0f3F800000`.
    Number { text: &'t str, negative: bool },
    /// `{%r1, %r2}`.
    Vector(Vec<Operand<'t>>),
    /// `[%rd1+16]`.
    Address { base: Option<&'t str>, offset: i64 },
    /// `[%rd1, {%r1, %r2}]`.
    Tensor { map: Box<Operand<'t>>, coordinates: Vec<Operand<'t>> },
    /// `%r1|%p1`.
    Pair(&'t str, &'t str),
}

/// The operands between an opcode and its end.
pub fn parsed<'t>(tokens: &[Token<'t>]) -> Result<Vec<Operand<'t>>, String> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let (operand, next) = one(tokens, at)?;
        found.push(operand);
        at = next;
        if at < tokens.len() {
            if !tokens[at].is(b',') {
                return Err(format!("expected `,`, found `{}`", tokens[at].text));
            }
            at += 1;
        }
    }
    Ok(found)
}

fn one<'t>(tokens: &[Token<'t>], at: usize) -> Result<(Operand<'t>, usize), String> {
    let text = |at: usize| tokens.get(at).map(|token| token.text).ok_or("an operand is missing".to_owned());
    match text(at)? {
        "{" => {
            let end = closing(tokens, at, b'}')?;
            Ok((Operand::Vector(parsed(&tokens[at + 1..end])?), end + 1))
        }
        "[" => {
            let end = closing(tokens, at, b']')?;
            let inside = &tokens[at + 1..end];
            let Some(comma) = inside.iter().position(|token| token.is(b',')) else { return Ok((address(inside)?, end + 1)) };
            let map = Box::new(address(&inside[..comma])?);
            match &parsed(&inside[comma + 1..])?[..] {
                [Operand::Vector(coordinates)] => Ok((Operand::Tensor { map, coordinates: coordinates.clone() }, end + 1)),
                _ => Err("the coordinates of a tensor were expected".into()),
            }
        }
        "!" => Ok((Operand::Not(text(at + 1)?), at + 2)),
        "-" => Ok((Operand::Number { text: text(at + 1)?, negative: true }, at + 2)),
        first if tokens[at].kind == Kind::Number => Ok((Operand::Number { text: first, negative: false }, at + 1)),
        first if tokens.get(at + 1).is_some_and(|token| token.is(b'|')) => Ok((Operand::Pair(first, text(at + 2)?), at + 3)),
        first if tokens[at].kind == Kind::Word => Ok((Operand::Name(first), at + 1)),
        other => Err(format!("`{other}` is not an operand")),
    }
}

fn closing(tokens: &[Token<'_>], at: usize, sign: u8) -> Result<usize, String> {
    let length = tokens[at..].iter().position(|token| token.is(sign));
    length.map(|length| at + length).ok_or_else(|| format!("`{}` is missing", sign as char))
}

fn address<'t>(tokens: &[Token<'t>]) -> Result<Operand<'t>, String> {
    let (mut base, mut offset, mut negative) = (None, 0, false);
    for token in tokens {
        match token.kind {
            Kind::Sign(b'+') => {}
            Kind::Sign(b'-') => negative = !negative,
            Kind::Number => {
                let value = number(token.text).ok_or_else(|| format!("`{}` is not a number", token.text))?.cast_signed();
                offset += if negative { -value } else { value };
                negative = false;
            }
            Kind::Word if base.is_none() => base = Some(token.text),
            _ => return Err(format!("`{}` is not known in an address", token.text)),
        }
    }
    Ok(Operand::Address { base, offset })
}
