//! `OP_QUERY` and `OP_REPLY`, as far as handshakes with old peers still use them.

use bytes::{BufMut, BytesMut};

use crate::{
    byte_str::ByteStr,
    document::{Document, DocumentList},
    error::{DecodeError, Defect, EncodeError, Field},
    frame::{self, Frame},
    header::{Header, OpCode},
    limits::Limits,
    parse::{self, Parsed},
};

/// The request of the oldest handshakes: a command is a query on `<database>.$cmd` for one
/// document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpQuery {
    /// The sender's number for this message.
    pub request_id: i32,
    /// 0 in a request.
    pub response_to: i32,
    /// Bit 2 is secondaryOk; kept as it came.
    pub flags: u32,
    /// `<database>.<collection>`, for commands `<database>.$cmd`.
    pub full_collection_name: ByteStr,
    /// Documents to skip.
    pub number_to_skip: i32,
    /// Documents wanted; commands say -1.
    pub number_to_return: i32,
    /// The command or the query.
    pub query: Document,
    /// Fields wanted, which commands do not use.
    pub return_fields_selector: Option<Document>,
}

impl OpQuery {
    /// A command on a database.
    pub fn command(request_id: i32, database: &str, command: Document) -> Self {
        Self {
            request_id,
            response_to: 0,
            flags: 0,
            full_collection_name: format!("{database}.$cmd").into(),
            number_to_skip: 0,
            number_to_return: -1,
            query: command,
            return_fields_selector: None,
        }
    }

    /// Reads a frame.
    ///
    /// # Errors
    /// When a field is cut short, a document malformed, or bytes are left over.
    pub fn from_frame(frame: &Frame, limits: &Limits) -> Result<Self, DecodeError> {
        query(frame, limits)
            .map(|(_, query)| query)
            .map_err(|error| parse::locate(error, &frame.body, Header::LEN))
    }

    /// Appends the message; `dst` stays as it is on an error.
    ///
    /// # Errors
    /// When the message is too long or the collection's name contains a zero byte.
    pub fn encode(&self, dst: &mut BytesMut, limits: &Limits) -> Result<(), EncodeError> {
        if let Some(offset) = self.full_collection_name.bytes().position(|byte| byte == 0) {
            return Err(EncodeError::ZeroByte {
                field: Field::FullCollectionName,
                offset,
            });
        }
        let selector = self
            .return_fields_selector
            .as_ref()
            .map_or(&[][..], Document::as_bytes);
        let name = self.full_collection_name.as_bytes();
        let len = Header::LEN + 4 + name.len() + 1 + 8 + self.query.len() + selector.len();
        let message_length = frame::encoded_length(len, limits)?;
        dst.reserve(len);
        let (request_id, response_to) = (self.request_id, self.response_to);
        Header {
            message_length,
            request_id,
            response_to,
            op_code: OpCode::OP_QUERY,
        }
        .put(dst);
        dst.put_u32_le(self.flags);
        dst.put_slice(name);
        dst.put_u8(0);
        dst.put_i32_le(self.number_to_skip);
        dst.put_i32_le(self.number_to_return);
        dst.put_slice(self.query.as_bytes());
        dst.put_slice(selector);
        Ok(())
    }
}

fn query<'a>(frame: &'a Frame, limits: &Limits) -> Parsed<'a, OpQuery> {
    let body = &frame.body;
    let (input, flags) = parse::uint32(Field::Flags, body)?;
    let (input, name) = parse::cstring(Field::FullCollectionName, input)?;
    let (input, number_to_skip) = parse::int32(Field::NumberToSkip, input)?;
    let (input, number_to_return) = parse::int32(Field::NumberToReturn, input)?;
    let (mut input, query) = parse::document(input, limits.max_document_len)?;
    let mut return_fields_selector = None;
    if !input.is_empty() {
        let (rest, selector) = parse::document(input, limits.max_document_len)?;
        return_fields_selector = Some(Document::within(body, selector));
        input = rest;
    }
    let (input, ()) = parse::end(input)?;
    let query = OpQuery {
        request_id: frame.header.request_id,
        response_to: frame.header.response_to,
        flags,
        full_collection_name: ByteStr::within(body, name),
        number_to_skip,
        number_to_return,
        query: Document::within(body, query),
        return_fields_selector,
    };
    Ok((input, query))
}

/// The answer to an [`OpQuery`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpReply {
    /// The sender's number for this message.
    pub request_id: i32,
    /// The query's `request_id`.
    pub response_to: i32,
    /// Bit 0 is CursorNotFound, bit 1 QueryFailure; kept as they came.
    pub flags: u32,
    /// 0 when there is nothing more to get, as for every command.
    pub cursor_id: i64,
    /// Where in the result these documents start.
    pub starting_from: i32,
    /// The documents; a command's reply is one.
    pub documents: DocumentList,
}

impl OpReply {
    /// A command's reply.
    pub fn new(request_id: i32, response_to: i32, reply: &Document) -> Self {
        Self {
            request_id,
            response_to,
            flags: 0,
            cursor_id: 0,
            starting_from: 0,
            documents: DocumentList::from_documents([reply]),
        }
    }

    /// Reads a frame. The documents are counted, so all their lengths are checked.
    ///
    /// # Errors
    /// When a field is cut short, a document malformed, or `numberReturned` wrong.
    pub fn from_frame(frame: &Frame, limits: &Limits) -> Result<Self, DecodeError> {
        reply(frame, limits)
            .map(|(_, reply)| reply)
            .map_err(|error| parse::locate(error, &frame.body, Header::LEN))
    }

    /// Appends the message; `dst` stays as it is on an error.
    ///
    /// # Errors
    /// When the message is too long.
    pub fn encode(&self, dst: &mut BytesMut, limits: &Limits) -> Result<(), EncodeError> {
        let documents = self.documents.as_bytes();
        let len = Header::LEN + 20 + documents.len();
        let message_length = frame::encoded_length(len, limits)?;
        let count = i32::try_from(self.documents.iter().count()).expect("fewer than bytes");
        dst.reserve(len);
        let (request_id, response_to) = (self.request_id, self.response_to);
        Header {
            message_length,
            request_id,
            response_to,
            op_code: OpCode::OP_REPLY,
        }
        .put(dst);
        dst.put_u32_le(self.flags);
        dst.put_i64_le(self.cursor_id);
        dst.put_i32_le(self.starting_from);
        dst.put_i32_le(count);
        dst.put_slice(documents);
        Ok(())
    }
}

fn reply<'a>(frame: &'a Frame, limits: &Limits) -> Parsed<'a, OpReply> {
    let body = &frame.body;
    let (input, flags) = parse::uint32(Field::Flags, body)?;
    let (input, cursor_id) = parse::int64(Field::CursorId, input)?;
    let (count, starting_from) = parse::int32(Field::StartingFrom, input)?;
    let (documents, expected) = parse::int32(Field::NumberReturned, count)?;
    let mut input = documents;
    let mut found = 0;
    while !input.is_empty() {
        (input, _) = parse::document(input, limits.max_document_len)?;
        found += 1;
    }
    if usize::try_from(expected) != Ok(found) {
        return parse::fail(count, Defect::DocumentCount { expected, found });
    }
    let reply = OpReply {
        request_id: frame.header.request_id,
        response_to: frame.header.response_to,
        flags,
        cursor_id,
        starting_from,
        documents: DocumentList::within(body, documents, Header::LEN),
    };
    Ok((input, reply))
}

#[cfg(test)]
mod tests;
