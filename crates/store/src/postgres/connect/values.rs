//! Parameters and rows as the client library sends and reads them.

use tokio_postgres::types::{ToSql, Type};

use crate::error::StoreError;
use crate::postgres::statement::{Param, Row, Value};

/// The rows of an answer.
pub(in crate::postgres) fn values(rows: &[tokio_postgres::Row]) -> Result<Vec<Row>, StoreError> {
    rows.iter()
        .map(|row| (0..row.len()).map(|column| value(row, column)).collect())
        .collect()
}

fn value(row: &tokio_postgres::Row, column: usize) -> Result<Value, StoreError> {
    let kind = row.columns()[column].type_();
    let value = match *kind {
        Type::INT8 => row
            .try_get::<_, Option<i64>>(column)
            .map(|v| v.map(Value::Int)),
        Type::INT4 => row
            .try_get::<_, Option<i32>>(column)
            .map(|v| v.map(|v| Value::Int(v.into()))),
        Type::INT2 => row
            .try_get::<_, Option<i16>>(column)
            .map(|v| v.map(|v| Value::Int(v.into()))),
        Type::BOOL => row
            .try_get::<_, Option<bool>>(column)
            .map(|v| v.map(Value::Bool)),
        Type::TEXT | Type::VARCHAR | Type::NAME => row
            .try_get::<_, Option<String>>(column)
            .map(|v| v.map(Value::Text)),
        // What functions answer that are called for their effect.
        Type::VOID => Ok(None),
        _ => {
            let name = row.columns()[column].name();
            let problem = format!("column `{name}` is of type {kind}: cast it");
            return Err(StoreError::Internal(problem));
        }
    };
    value
        .map(|value| value.unwrap_or(Value::Null))
        .map_err(|e| StoreError::Internal(e.to_string()))
}

impl Param<'_> {
    /// Stated when a statement is prepared, so that the server takes numbers of this size for columns
    /// of every size.
    pub(in crate::postgres) fn postgres_type(&self) -> Type {
        match self {
            Param::Int(_) => Type::INT8,
            Param::Text(_) => Type::TEXT,
            Param::Ints(_) => Type::INT8_ARRAY,
            Param::Texts(_) => Type::TEXT_ARRAY,
        }
    }
}

impl ToSql for Param<'_> {
    fn to_sql(
        &self,
        kind: &Type,
        out: &mut tokio_postgres::types::private::BytesMut,
    ) -> Result<tokio_postgres::types::IsNull, Box<dyn std::error::Error + Sync + Send>> {
        match self {
            Param::Int(value) => value.to_sql(kind, out),
            Param::Text(value) => value.to_sql(kind, out),
            Param::Ints(values) => values.to_sql(kind, out),
            Param::Texts(values) => values.to_sql(kind, out),
        }
    }

    fn accepts(kind: &Type) -> bool {
        [Type::INT8, Type::TEXT, Type::INT8_ARRAY, Type::TEXT_ARRAY].contains(kind)
    }

    tokio_postgres::types::to_sql_checked!();
}
